"""What a run says of itself: progress, metrics, traces, goodput, stop signals."""
