"""What a run says of itself: progress, metrics, goodput, stop signals."""
