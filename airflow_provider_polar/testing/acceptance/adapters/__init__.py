"""Known clients by the contract of the acceptance suite, each a file that runs in the client's own environment."""
