"""Linear read-outs of states, each scored on images that it was not fitted on."""
