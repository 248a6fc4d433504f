"""No tasks of our own; lmms-eval asks a plug-in of LMMS_EVAL_PLUGINS for a folder of them."""
