"""What the tests share: builders of small problems, nets and runs."""
