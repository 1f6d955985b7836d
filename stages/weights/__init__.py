"""What gets weights in and out: model artifacts, pretrained parts, released checkpoints, exchange with other programs."""
