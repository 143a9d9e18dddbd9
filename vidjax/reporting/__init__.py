"""The page of a training run: what its workdir says, judged, drawn and laid out."""
