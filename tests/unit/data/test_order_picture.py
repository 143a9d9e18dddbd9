import runpy


def test_the_picture_of_the_order_shows_what_the_code_does(repo_root):
  script = repo_root / "docs" / "images" / "data_order.py"
  assert script.with_suffix(".svg").read_text() == runpy.run_path(str(script))["draw"]()
