"""What people take elsewhere: the labels of an artifact (items.py), and one short file a format that tools read."""
