"""Records: files of questions about images, read one record at a time; what cannot be used is named and counted."""

from emma_viz.records.llava import LlavaRecord, conversation_tokens, parse_record, read_records

__all__ = ["LlavaRecord", "conversation_tokens", "parse_record", "read_records"]
