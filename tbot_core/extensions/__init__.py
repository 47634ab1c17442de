"""Extensions beside a run: what follows the journal, each from its own durable position."""
