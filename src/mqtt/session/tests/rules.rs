//! One named test for each rule of the machine.
