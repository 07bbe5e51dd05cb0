"""`asma table`: every protocol of the field for PSTL, ASMa and a random encoder, by the same code, in one command."""
