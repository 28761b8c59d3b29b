//! The computedriver.v1 server on libvirt.
