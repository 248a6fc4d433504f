"""Cobra and EMMA from records of images and conversations, as the released code trains them."""
