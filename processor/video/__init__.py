"""Videos and cameras: poses of people, who is who over the frames, what they do, and a video that shows it."""
