"""What the coordinator must not forget: state, events, parties, sealed envelopes, layers."""
