"""Cases as documents to send: self-contained HTML, and PDF."""
