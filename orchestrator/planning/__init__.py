"""What is decided before anything is touched: who is a target, who goes first, who follows in which wave."""
