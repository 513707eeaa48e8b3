"""One function per table and gate, each returning its suite of rules."""
