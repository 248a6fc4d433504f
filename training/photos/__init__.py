"""Training of the pair that knows photographs: an ImageNet encoder, and questions about photographs and scenes of them."""
