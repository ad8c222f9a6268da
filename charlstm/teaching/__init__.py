"""Small cells worked by hand: the example's file, the worksheet and its pictures."""
