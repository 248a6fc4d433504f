"""The sub-commands of `emma-viz`, a module each with its HELP, `add_arguments(parser)` and `run(args)`."""
