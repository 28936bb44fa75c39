"""What the fleet's health samples say: windows, baselines, gates and triggers, as a fold over the samples.

A sample enters through ``Monitor.observe``; everything else asks the monitor. Nothing here has a clock: ``now`` and
``received_at`` are seconds of the receiver's clock and never fall. No data is never good news: what cannot be shown is
inconclusive, and a trigger without evidence does not fire.
"""
