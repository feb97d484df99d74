"""What is known of apps, deliveries and deploys."""
