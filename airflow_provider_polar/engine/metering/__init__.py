"""What a meter makes of events, by Polar's own rules, and the comparison with what Polar says that it made."""
