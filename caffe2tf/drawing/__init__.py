"""Networks and pictures, in; filters, feature maps, graphs and curves as pictures, out."""
