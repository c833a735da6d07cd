"""Reading completely: forward by time, proved by Polar's own counts."""
