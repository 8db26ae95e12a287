"""What a machine is answered: the rules of its track, the decision, the relay to the Omaha server upstream."""
