"""Cases: what models said of one image and question, why they stand out, and what people judged of them."""
