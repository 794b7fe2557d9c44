"""The numbers inside the network, read out as text: norms, activations, positions, attention, experts, blocks."""
