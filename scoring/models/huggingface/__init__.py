"""Reading ordinary Hugging Face and sentence-transformers folders, offline, into what a text bundle holds.

A folder is foreign (law 8): JSON and safetensors are read, nothing is imported or run, and transformers is not needed. What would
change the numbers and is not known here is refused by its key and value: a bundle gives their numbers or does not come to be.
"""
