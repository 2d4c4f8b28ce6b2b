"""What the forest family is made of: what a bundle says, how columns become ranks, how trees are walked, what explains a score."""
