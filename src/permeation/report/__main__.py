"""`python -m permeation.report` writes report.html."""

from permeation.report.page import main

if __name__ == "__main__":
    main()
