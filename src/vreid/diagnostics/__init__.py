"""What an honest report needs beside the model's own numbers: floors to stand on and slices to look at."""
