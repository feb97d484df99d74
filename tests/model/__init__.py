"""A model beside the machine: the real classes over a simulated clock, kernel and Docker Engine."""
