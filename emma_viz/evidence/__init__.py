"""What tokens do to one another and to the answer: read-outs in words, and which image tokens a word depends on."""
