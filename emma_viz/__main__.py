"""python -m emma_viz"""

from emma_viz.cli.main import entry

if __name__ == "__main__":
    entry()
