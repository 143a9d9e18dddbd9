"""What starts training, here and on clusters, and starts it again when it has to be."""
