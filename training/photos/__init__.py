"""Training of the pair that knows photographs: its encoder, its pictures, its recipe."""
