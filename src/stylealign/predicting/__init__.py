"""From photos, folders and videos to landmarks.

A photo is read (sources), places where faces may be are found in it (candidates), the network answers (landmarks), and
its answers, values of one kind (predicted_face), are followed from frame to frame (tracking), drawn and written.

network.py is the interface between that and a trained model. Of the files on this way only torch_network.py imports
torch; on_datasets.py, validation.py and ensemble.py, which ask torch models about whole data sets, do as well.
"""
