"""What a picture or video may be: how large, and that it is a file by itself.

A hundred kilobytes of PNG, JPEG or H.264 can say a frame of a hundred gigabytes, and decoders make
room for it before they find out that there is nothing in it.
"""

import av

from vidjax import errors

# 16384 x 8192. 16K video (15360 x 8640) passes, and pictures of 128 megapixels. In RGB it takes
# 400 MB, which a decoding process has.
MAX_PIXELS = 1 << 27
# For FFmpeg's decoders, which ask before they make room for a frame of another size.
DECODER = {"max_pixels": str(MAX_PIXELS)}
# For FFmpeg's readers of files. Playlists and scripts would have it open what they name: other
# files, or what is in the network.
_PLAYLISTS = ("concat", "dash", "hls", "imf", "image2", "lavfi", "rtsp", "sdp")
FILE = {
  "format_whitelist": ",".join(sorted(av.formats_available - {*_PLAYLISTS, "webm_dash_manifest"}))
}
# A clip that is held in memory whole, as uint8 RGB: a minute of 1080p at 24 frames per second.
MAX_CLIP_BYTES = 9 << 30


class NoVideoError(ValueError):
  """The file holds no video that can be decoded: sound only, an unknown codec, an absurd size."""


def check(what: str, height: int, width: int, error: type[Exception] = errors.DataError) -> None:
  """Refuses a picture of absurd size before it is decoded.

  Raises:
    `error`: it has more than `MAX_PIXELS`.
  """
  if height * width > MAX_PIXELS:
    raise error(
      f"{what} says that it has {width}x{height} pixels, more than {MAX_PIXELS}: a decompression"
      " bomb, or a damaged header"
    )
