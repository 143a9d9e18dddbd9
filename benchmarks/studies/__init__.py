"""Does each stage of SVD's recipe earn its place? Small studies on CPU-sized models.

`plan.toml` says what is compared and how it is judged, `run` does it; README.md is the guide.
"""
