"""What tests of several folders share: small plans, parties, servers, runs."""
