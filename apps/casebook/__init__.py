"""The casebook in the browser: questions, what models answered, the evidence inside, what people judged."""
