"""Networks that evaluation features come from, in float32 and for inference only.

`registry.BACKBONES` names them; each row holds a network, its own input chain and the converter of
the file that it was published in. Nothing is downloaded: the user brings the file.
"""
