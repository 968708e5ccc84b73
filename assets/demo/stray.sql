-- What somebody tries on their test restore: a transaction of its own, for each number :n.
INSERT INTO customers (name, email, city, joined_on)
VALUES ('Test Customer :n', 'test:n@example.com', 'Nowhere', current_date);
