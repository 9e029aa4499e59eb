"""HTTP/2 (RFC 9113): from frames, which the kernel tells one by one, to exchanges that the other stages can read.

hpack.py and huffman.py say what header blocks say (RFC 7541), message.py what that is as the head of a message, and
streams.py which of them belong together.
"""
