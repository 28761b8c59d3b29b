//! Client of computedriver.v1.
