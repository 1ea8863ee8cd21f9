"""The coordinator: the consortium's office. It knows who takes part under which plan, and sees no picture."""
