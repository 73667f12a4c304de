"""From photos, folders and video to landmarks: reading, finding faces, the network, tracking, and what is written of it.

network.py is the one interface between all of this and a trained model; only torch_network.py imports torch.
"""
