"""Variables of the environment by which the command tells the page, which Streamlit runs, what it shows."""

CASEBOOK_PLACE = "EMMA_VIZ_CASEBOOK"
"""Path or URL of the casebook."""

CASEBOOK_MODELS = "EMMA_VIZ_CASEBOOK_MODELS"
"""As JSON, where the weights of models lie, by their names in the casebook."""

CASEBOOK_PERSON = "EMMA_VIZ_CASEBOOK_PERSON"
"""The name that judgements have where nobody gives another; empty where others than this machine's people come."""

CASEBOOK_EXPLORER = "EMMA_VIZ_CASEBOOK_EXPLORER"
"""As JSON, the `address` of the explorer, and the `start` of the command that starts it; empty for neither."""
