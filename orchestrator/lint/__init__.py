"""What a policy cannot do for this fleet, said before it is started."""
