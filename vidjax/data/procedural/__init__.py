"""A made-up world of moving shapes: what happens is known, since nothing else is drawn.

  dice      random numbers that are functions of their names
  scenes    what happens in a clip: shapes, background, camera, cuts
  captions  how that is said
  drawing   how it looks at any size, and the flow between two frames

`vidjax.data.sources.procedural` makes a data set of it.
"""
