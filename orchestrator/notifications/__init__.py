"""What people are told of rollouts, when, and in which words; all of it pure.

``watcher`` folds what is heard on the bus and yields notifications; ``triggers`` has the rule of each trigger.
"""
