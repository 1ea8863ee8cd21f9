"""What a trained network says of new pictures: how they are read, what is told, and a page that shows why."""
